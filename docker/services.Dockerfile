# The services and the command `connectors`, each a target of its own:
#   docker build --file docker/services.Dockerfile --target trade-service .
# They share one build, so that what they have in common is compiled once.

FROM rust:1.95.0-slim-trixie AS build
# For librdkafka, which is compiled from source.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends cmake g++ make \
 && rm -rf /var/lib/apt/lists/*
# The image's own toolchain. rust-toolchain.toml pins the same one and asks for components that a build
# does not need.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /source
COPY . .
RUN cargo build --locked --release \
    --package trade-service --package chat-service --package connectors

FROM debian:trixie-slim AS base
# Certificates for an https JWT_JWKS; curl for the health checks.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates curl \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --user-group service
USER service

FROM base AS trade-service
COPY --from=build /source/target/release/trade-service /usr/local/bin/
ENV LISTEN=0.0.0.0:8080 ADMIN_LISTEN=0.0.0.0:8081
EXPOSE 8080 8081
ENTRYPOINT ["trade-service"]

FROM base AS chat-service
COPY --from=build /source/target/release/chat-service /usr/local/bin/
ENV LISTEN=0.0.0.0:8090 ADMIN_LISTEN=0.0.0.0:8091
EXPOSE 8090 8091
ENTRYPOINT ["chat-service"]

FROM base AS connectors
COPY --from=build /source/target/release/connectors /usr/local/bin/
COPY connectors/trade-posts.json /etc/connectors/
ENTRYPOINT ["connectors"]
CMD ["apply", "/etc/connectors"]
