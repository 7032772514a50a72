# The server, from the base install alone: neither Keras nor TensorFlow.
#   docker build --tag convladder .
#   docker run --read-only --volume ./runs:/models:ro --env CONVLADDER_API_KEY --publish 127.0.0.1:8000:8000 \
#     convladder /models/fast-1 --host 0.0.0.0
FROM python:3.13-slim AS build
WORKDIR /source
COPY requirements requirements
RUN pip install --no-cache-dir --require-hashes --requirement requirements/build.txt && \
  python -m venv /opt/convladder && \
  /opt/convladder/bin/pip install --no-cache-dir --require-hashes --requirement requirements/base.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . && \
  /opt/convladder/bin/pip install --no-cache-dir --no-deps --no-index /wheel/*.whl

FROM python:3.13-slim
COPY --from=build /opt/convladder /opt/convladder
ENV PATH=/opt/convladder/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65534:65534
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["python", "-c", \
  "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=2)"]
ENTRYPOINT ["convladder", "serve"]
CMD ["/models", "--host", "0.0.0.0"]
