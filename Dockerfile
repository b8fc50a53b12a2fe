# syntax=docker/dockerfile:1
# One static binary and the roots of TLS, as a user without rights. It runs the single
# roles: `callmask all` starts a redis-server, which is not in here.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# .git is part of the context: the Go tool notes the version from it.
RUN CGO_ENABLED=0 go build -buildvcs=true -trimpath -ldflags=-s -o /callmask ./cmd/callmask && mkdir /keys

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /callmask /usr/local/bin/callmask
COPY LICENSE /usr/share/doc/callmask/LICENSE
# A volume mounted here takes its owner over, so that `callmask keys add` may write to it.
COPY --from=build --chown=65532:65532 /keys /keys
USER 65532:65532
EXPOSE 8080 9090
ENV CALLMASK_LOG_FORMAT=json
ENTRYPOINT ["/usr/local/bin/callmask"]
CMD ["--help"]
