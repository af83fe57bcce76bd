# The version that is built, as shown by `--version` and `/info`.
ARG VERSION=1.0.0
# The base image. Give it by digest for a reproducible build: --build-arg BASE=python:3.11-slim@sha256:…
ARG BASE=python:3.11-slim

FROM ${BASE} AS build

# `runtime` is what production needs; `sandbox` adds the simulated services, so that `demo` runs in the container.
ARG LOCK=runtime
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1

# A separate layer, which stays the same until a lock changes.
COPY requirements/build.txt requirements/${LOCK}.txt /locks/
RUN python -m venv /app \
 && /app/bin/pip install --quiet --require-hashes --requirement /locks/${LOCK}.txt \
 && python -m venv /build \
 && /build/bin/pip install --quiet --require-hashes --requirement /locks/build.txt

WORKDIR /source
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY sync/ sync/
COPY reports/ reports/
COPY templates/ templates/
COPY sandbox/ sandbox/
COPY jobs/ jobs/
ARG VERSION
RUN sed --in-place "s/^version = .*/version = \"${VERSION}\"/" pyproject.toml \
 && /build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /dist . \
 && /app/bin/pip install --quiet --no-deps --no-index /dist/*.whl \
 && /app/bin/pip uninstall --quiet --yes setuptools pip

# Files that nothing reads are removed: tests, sources of compiled modules, and descriptions of unused AWS services.
# The bytecode is compiled last and for good, since nothing can be written there later; with `unchecked-hash` Python never
# checks whether a source is newer.
COPY prune-image.sh /build/
RUN sh /build/prune-image.sh /app \
 && python -m compileall -q -f --invalidation-mode unchecked-hash /app/lib


FROM ${BASE}

ARG VERSION
ARG REVISION=unknown
LABEL org.opencontainers.image.title="prisoner-to-nomis" \
      org.opencontainers.image.description="Keeps NOMIS in step with the digital prison services" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# A volume that is mounted at /reports takes its owner from this folder.
RUN groupadd --gid 2000 appgroup \
 && useradd --uid 2000 --gid appgroup --no-create-home --home-dir /tmp --shell /usr/sbin/nologin appuser \
 && install --directory --owner=appuser --group=appgroup /reports

# The program belongs to root, so the account that runs it cannot change it.
COPY --from=build /app /app

ENV PATH=/app/bin:$PATH HOME=/tmp TZ=Europe/London PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# The program writes only to /tmp and mounted volumes, so the root file system may be read-only.
WORKDIR /tmp
USER 2000:2000
EXPOSE 8080

# For the scheduler; a container that runs a single command is over before it matters.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('HEALTH_PORT', '8080')}/health/liveness\", timeout=4)"]

ENTRYPOINT ["prisoner-to-nomis"]
CMD ["--help"]
