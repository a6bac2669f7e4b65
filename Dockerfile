# One image for migrate, web, worker, beat and engine; docker-compose.yml says which command each runs.
# Pin the digest for production: `docker buildx imagetools inspect python:3.11-slim-bookworm`, then
# `FROM python:3.11-slim-bookworm@sha256:…`.
FROM python:3.11-slim-bookworm AS build

# The CPU build of torch; for an NVIDIA GPU: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/hone
WORKDIR /srv/hone
# Dependencies first: they change less often than the code.
COPY constraints.txt pyproject.toml README.md ./
RUN mkdir app worker && touch app/__init__.py worker/__init__.py \
    && /opt/hone/bin/pip install --constraint constraints.txt --no-deps --index-url "${TORCH_INDEX}" \
       "$(grep -E '^torch==' constraints.txt)" \
    && /opt/hone/bin/pip install --constraint constraints.txt --editable .

FROM python:3.11-slim-bookworm
RUN groupadd --system --gid 10001 hone \
    && useradd --system --uid 10001 --gid hone --no-create-home --home-dir /data --shell /usr/sbin/nologin hone \
    && install --directory --owner=hone --group=hone --mode=0700 /data /cache
COPY --from=build /opt/hone /opt/hone
WORKDIR /srv/hone
COPY pyproject.toml README.md alembic.ini ./
COPY app ./app
COPY worker ./worker
COPY migrations ./migrations
COPY templates ./templates
ENV PATH=/opt/hone/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HONE_DATA=/data \
    HF_HOME=/data/hub
USER hone
VOLUME /data
EXPOSE 8000
CMD ["python", "-m", "uvicorn", "app.main:create_app", "--factory", "--host", "0.0.0.0", "--port", "8000", \
     "--no-server-header", "--timeout-graceful-shutdown", "10"]
