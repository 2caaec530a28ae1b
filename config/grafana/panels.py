"""What Grafana wants to be told of a panel, so that a dashboard is a list of questions."""

SOURCE = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
GREEN, YELLOW, RED = "green", "yellow", "red"


def ask(expr, legend="", name=None, unit=None, limits=None):
    """A query; `name`, `unit` and `limits` are of its column or bar, where the panel has several."""
    return {"expr": " ".join(expr.split()), "legend": legend, "name": name, "unit": unit, "limits": limits}


def steps(limits):
    """Colours from green over yellow to red; from red to green if the limits fall."""
    first, second = limits
    low, high = (GREEN, RED) if first <= second else (RED, GREEN)
    colours = [{"color": low, "value": None}]
    if first != second:
        colours.append({"color": YELLOW, "value": min(limits)})
    return {"mode": "absolute", "steps": [*colours, {"color": high, "value": max(limits)}]}


def panel(kind, title, says, queries, unit, width, height, limits, runbook, **more):
    letters = "ABCDEFGHIJKLMNOP"
    assert len(queries) <= len(letters)
    defaults = {"unit": unit}
    if limits:
        defaults["thresholds"] = steps(limits)
    made = {
        "type": kind,
        "title": title,
        "description": " ".join(says.split()),
        "datasource": SOURCE,
        "gridPos": {"w": width, "h": height},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {
                "refId": letter,
                "datasource": SOURCE,
                "expr": query["expr"],
                "legendFormat": query["legend"] or "__auto",
                "editorMode": "code",
                "instant": kind in ("stat", "bargauge", "table"),
                "range": kind not in ("stat", "bargauge", "table"),
                "format": {"heatmap": "heatmap", "table": "table"}.get(kind, "time_series"),
            }
            for letter, query in zip(letters, queries)
        ],
    }
    if runbook:
        made["links"] = [
            {"title": f"Runbook: {part}", "url": f"${{docs}}/runbooks.md#{part.lower()}", "targetBlank": True}
            for part in runbook.split()
        ]
    made.update(more)
    return made


def graph(title, says, *queries, unit, width=8, height=8, limits=None, runbook=None, stack=False, least=0):
    """Lines over time; `limits` are drawn as lines."""
    made = panel("timeseries", title, says, queries, unit, width, height, limits, runbook)
    custom = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never"}
    if stack:
        custom |= {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 40}
    if limits:
        custom["thresholdsStyle"] = {"mode": "line"}
    made["fieldConfig"]["defaults"] |= {"custom": custom, "min": least}
    made["options"] = {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return made


def number(title, says, query, unit, limits=None, width=4, height=4, runbook=None, names=None):
    """One figure, or one a series, coloured by its limits; `names` gives values their words."""
    made = panel("stat", title, says, [query], unit, width, height, limits, runbook)
    made["options"] = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "background" if limits else "value",
        "graphMode": "none",
        "textMode": "auto" if query["legend"] else "value",
    }
    if names:
        words = {str(value): {"text": word, "index": at} for at, (value, word) in enumerate(names.items())}
        made["fieldConfig"]["defaults"]["mappings"] = [{"type": "value", "options": words}]
    return made


def bars(title, says, *queries, unit, limits, width=12, height=8, runbook=None):
    """A bar each, coloured by its limits."""
    made = panel("bargauge", title, says, queries, unit, width, height, limits, runbook)
    made["fieldConfig"]["defaults"] |= {"min": 0, "max": 2 * max(limits)}
    for target, query in zip(made["targets"], queries):
        own = [{"id": "thresholds", "value": steps(query["limits"])}]
        matcher = {"id": "byFrameRefID", "options": target["refId"]}
        made["fieldConfig"]["overrides"].append({"matcher": matcher, "properties": own})
    made["options"] = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "horizontal",
        "displayMode": "basic",
        "showUnfilled": True,
    }
    return made


def table(title, says, by, *queries, unit="short", width=24, height=9, runbook=None, link=None, hide=()):
    """A row for each value of the label `by`, a column for each query; `link`: where
    a row leads; `hide`: columns that tell nothing."""
    made = panel("table", title, says, queries, unit, width, height, None, runbook)
    overrides = made["fieldConfig"]["overrides"]
    names, hidden = {by: by.capitalize()}, {name: True for name in ("Time", *hide)}
    for target, query in zip(made["targets"], queries):
        column = f"Value #{target['refId']}" if len(queries) > 1 else "Value"
        names[column] = query["name"]
        properties = [{"id": "unit", "value": query["unit"] or unit}]
        if query["limits"]:
            coloured = {"type": "color-background", "mode": "basic"}
            properties.append({"id": "thresholds", "value": steps(query["limits"])})
            properties.append({"id": "custom.cellOptions", "value": coloured})
        # Overrides are applied after the columns were renamed.
        overrides.append({"matcher": {"id": "byName", "options": query["name"]}, "properties": properties})
    if link:
        properties = [{"id": "links", "value": [{"title": "Look at it", "url": link}]}]
        overrides.append({"matcher": {"id": "byName", "options": by.capitalize()}, "properties": properties})
    made["transformations"] = [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": hidden, "renameByName": names, "indexByName": {}}},
    ]
    made["options"] = {"showHeader": True, "cellHeight": "sm"}
    return made


def heatmap(title, says, query, unit="s", width=12, height=8, runbook=None):
    """How many calls took how long, over time."""
    made = panel("heatmap", title, says, [query], unit, width, height, None, runbook)
    made["targets"][0]["legendFormat"] = "{{le}}"
    made["options"] = {
        "calculate": False,
        "yAxis": {"unit": unit},
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
        "cellGap": 1,
        "tooltip": {"show": True, "yHistogram": False},
    }
    return made


def choice(name, label, query, several):
    """A variable whose values Prometheus knows."""
    made = {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": "values"},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
    }
    if several:
        made |= {"allValue": ".*", "current": {"text": "All", "value": "$__all"}}
    return made


def dashboard(uid, title, says, variables, rows, docs):
    """Rows of panels, each row a title and its panels, laid out from left to right."""
    panels, top = [], 0
    for name, members in rows:
        panels.append({"type": "row", "title": name, "collapsed": False, "panels": [],
                       "gridPos": {"x": 0, "y": top, "w": 24, "h": 1}})
        top, left, tallest = top + 1, 0, 0
        for one in members:
            width, height = one["gridPos"]["w"], one["gridPos"]["h"]
            if left + width > 24:
                top, left, tallest = top + tallest, 0, 0
            one["gridPos"] = {"x": left, "y": top, "w": width, "h": height}
            left, tallest = left + width, max(tallest, height)
            panels.append(one)
        top += tallest
    for number_, one in enumerate(panels, 1):
        one["id"] = number_
    source = {"name": "DS_PROMETHEUS", "label": "Prometheus", "type": "datasource", "query": "prometheus",
              "refresh": 1, "current": {}}
    place = {"name": "docs", "label": "docs/ is at", "type": "textbox", "query": docs,
             "current": {"text": docs, "value": docs}, "options": [{"text": docs, "value": docs, "selected": True}]}
    others = {"type": "dashboards", "title": "Shunt", "tags": ["shunt"], "asDropdown": False, "includeVars": False,
              "keepTime": True}
    runbooks = {"type": "link", "title": "Runbooks", "url": "${docs}/runbooks.md", "icon": "doc", "targetBlank": True}
    meanings = {"type": "link", "title": "Metrics", "url": "${docs}/metrics.md", "icon": "doc", "targetBlank": True}
    return {
        "uid": uid,
        "title": title,
        "description": " ".join(says.split()),
        "tags": ["shunt"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [source, *variables, place]},
        "annotations": {"list": [changes()]},
        "links": [others, runbooks, meanings],
        "panels": panels,
    }


def changes():
    """A line where a configuration was reloaded: the first thing to ask after."""
    return {
        "name": "Reloads",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "blue",
        "expr": "increase(shunt_config_reloads_total[1m]) > 0",
        "titleFormat": "{{instance}} reloaded: {{result}}",
        "step": "1m",
    }
