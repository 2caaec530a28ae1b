#   docker build -t shunt:local .
#   docker run --rm -p 127.0.0.1:8080:8080 -v shunt:/data -e OPENAI_API_KEY=… --stop-timeout 90 --name shunt shunt:local
# Apps: http://127.0.0.1:8080/v1. Operators ask inside: docker exec -it shunt shunt top. A configuration of your own:
#   -v $PWD/shunt.toml:/etc/shunt/docker/shunt.toml:ro
# An admin listener that is open to other containers (0.0.0.0:8081) needs auth.admin_token: config/compose/shunt.toml.
#
# Two stages; the binary is optimised by what its demo does (tools/pgo).
FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
# Lists the parts of the binary; without optimisation, for it runs once.
RUN cargo install --quiet --locked --debug --version 0.5.9 cargo-cyclonedx
COPY Cargo.toml Cargo.lock ./
COPY vendor vendor
COPY src src
COPY page page
COPY tools tools
RUN rustup component add llvm-tools && cp "$(tools/pgo)" shunt \
    && cargo cyclonedx --quiet --format json --spec-version 1.5 --describe binaries

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 shunt && mkdir -p /data && chown shunt /data
COPY --from=build /build/shunt /usr/local/bin/shunt
COPY --from=build /build/shunt_bin.cdx.json /usr/share/doc/shunt/sbom.cdx.json
COPY config /etc/shunt
USER shunt
WORKDIR /data
VOLUME /data
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=2s CMD curl -fsS http://127.0.0.1:8081/readyz || exit 1
# SIGTERM drains: running calls end before the process does.
STOPSIGNAL SIGTERM
ENTRYPOINT ["shunt"]
CMD ["serve", "--config", "/etc/shunt/docker/shunt.toml"]
