# `redarte serve` for the models in a folder: docs/predicting.md.
FROM python:3.13-slim
COPY pyproject.toml README.md constraints.txt /source/
COPY src /source/src
RUN python -m pip install --no-cache-dir --constraint /source/constraints.txt "/source[serve]" \
    && useradd --create-home redarte
USER redarte
EXPOSE 7860
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/health', timeout=5)"]
ENTRYPOINT ["redarte", "serve", "--host", "0.0.0.0"]
CMD ["/models"]
