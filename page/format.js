// Numbers with their units.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** Three significant digits. @param {number} value */
function three(value) {
  if (value >= 100) return whole.format(value);
  return String(Number(value.toPrecision(value >= 10 ? 3 : 2 + Number(value >= 1))));
}

/** A duration. @param {number|null|undefined} seconds */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds === 0) return "0 s";
  if (seconds < 0.001) return `${three(seconds * 1e6)} µs`;
  if (seconds < 0.9995) return `${three(seconds * 1e3)} ms`;
  if (seconds < 100) return `${three(seconds)} s`;
  return age(seconds);
}

/** A long duration, in two units. @param {number} seconds */
export function age(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = units.findIndex(([length]) => seconds >= Number(length));
  if (first < 0) return "0 s";
  const [length, unit] = units[first];
  const most = Math.floor(seconds / Number(length));
  const rest = units[first + 1];
  const left = rest ? Math.floor((seconds % Number(length)) / Number(rest[0])) : 0;
  return left ? `${most} ${unit} ${left} ${rest[1]}` : `${most} ${unit}`;
}

/** A rate. @param {number|null|undefined} perSecond */
export function rate(perSecond) {
  if (perSecond === null || perSecond === undefined) return "–";
  if (perSecond === 0) return "0/s";
  if (perSecond < 0.05) return `${three(perSecond * 60)}/min`;
  return `${perSecond < 10 ? perSecond.toFixed(1) : whole.format(perSecond)}/s`;
}

/** A count. @param {number} value */
export function count(value) {
  return value < 100000 ? whole.format(value) : compact.format(value);
}

/** A share. @param {number|null|undefined} value */
export function share(value) {
  if (value === null || value === undefined) return "–";
  const percent = value * 100;
  if (percent === 0) return "0%";
  if (percent < 0.01) return "<0.01%";
  if (percent >= 99.95 && percent < 100) return ">99.9%";
  return `${percent < 1 ? percent.toFixed(2) : percent < 10 ? percent.toFixed(1) : percent.toFixed(0)}%`;
}

/** A percentile's name. @param {number} value */
export function percentile(value) {
  const percent = value * 100;
  if (value >= 1) return "the largest";
  const digits = Math.max(0, Math.ceil(-Math.log10(1 - value)) - 1);
  return `p${percent.toFixed(Math.min(digits, 5))}`;
}

/** A size. @param {number|null|undefined} value */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit ? three(value) : value} ${units[unit]}`;
}

/** A moment's time of day. @param {number} seconds since 1970 */
export function clock(seconds) {
  return new Date(seconds * 1e3).toLocaleTimeString("en-GB");
}

/** A moment as the API writes it, in this browser's time. @param {string|null|undefined} moment */
export function when(moment) {
  if (!moment) return "–";
  const date = new Date(moment);
  const time = date.toLocaleTimeString("en-GB");
  const today = date.toDateString() === new Date().toDateString();
  return today ? time : `${date.toLocaleDateString("en-CA")} ${time}`;
}

const SHARES = { p50: 0.5, p90: 0.9, p95: 0.95, p99: 0.99, p999: 0.999, max: 1 };

/**
 * Whether a percentile is past its budget. Not by its value: totals of streams stand in it too, which are held to no
 * total budget unless they are cut.
 * @param {any} figures @param {keyof typeof SHARES} percentile
 */
export function isOver(figures, percentile) {
  return figures.count > 0 && (figures.over ?? 0) > 1 - SHARES[percentile];
}
