# One image for both programs: `fairway operator` and `fairway dataplane`.
#
# BASE is any image with Python 3.11 or newer, its venv module, and glibc; BUILD_BASE has the
# same Python in the same place, its headers, and a C compiler for the request path. Rust, for
# TLS, is installed from Debian where it is not in it.
ARG BASE=python:3.11-slim-bookworm
ARG BUILD_BASE=python:3.11-bookworm

# Wheels of what the lock files name, hash by hash, and of Fairway itself. Nothing but Fairway
# is compiled: a dependency without a wheel for this platform stops the build.
FROM ${BUILD_BASE} AS wheels
WORKDIR /src
RUN python3 -m venv /build
RUN command -v cargo || { apt-get update && apt-get install -y --no-install-recommends cargo-web; }
COPY requirements/build.txt requirements/image.txt requirements/
RUN /build/bin/pip install --no-cache-dir --disable-pip-version-check --only-binary :all: \
        --require-hashes -r requirements/build.txt \
    && /build/bin/pip download --no-cache-dir --disable-pip-version-check --only-binary :all: \
        --require-hashes -r requirements/image.txt --dest /wheels
COPY hatch_build.py pyproject.toml README.md LICENSE ./
COPY operator operator
COPY dataplane dataplane
RUN FAIRWAY_COMPILED=1 /build/bin/hatchling build --target wheel --directory /wheels \
    && python3 -m venv --without-pip /opt/fairway \
    && /build/bin/pip --python /opt/fairway/bin/python install --no-cache-dir \
        --disable-pip-version-check --no-index --no-deps /wheels/*.whl

FROM ${BASE}
LABEL org.opencontainers.image.title="Fairway" \
      org.opencontainers.image.description="A Kubernetes ingress controller" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=wheels /opt/fairway /opt/fairway
# Nothing is written to the root file system, so it can be read-only. USER, because the
# numeric user has no name that getpass could find.
ENV PATH=/opt/fairway/bin:$PATH \
    HOME=/tmp \
    USER=fairway \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
# Data plane: http, https, admin. Operator: stream, admin, webhook.
EXPOSE 8080 8443 9000 8600 9443
ENTRYPOINT ["fairway"]
