# syntax=docker/dockerfile:1
FROM rust:1.95-bookworm AS build
# aws-lc-sys is C.
RUN apt-get update && apt-get install --yes --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin rollcall && cp target/release/rollcall /rollcall
RUN mkdir /data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /rollcall /usr/local/bin/rollcall
# SQLite writes its journal beside the database: the volume is the directory, not the file.
COPY --from=build --chown=nonroot:nonroot /data /data
VOLUME /data
# Other machines reach a container, so it does not start without ROLLCALL_API_KEY or ROLLCALL_API_KEY_FILE.
ENV ROLLCALL_LISTEN=0.0.0.0:8080 ROLLCALL_DATABASE_URL=sqlite:///data/rollcall.db
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/rollcall"]
CMD ["serve"]
