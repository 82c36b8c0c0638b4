# docker build -t dadkit . && docker run --rm -v "$PWD:/data" dadkit predict photo.jpg
#
# With a GPU: docker run --gpus all …; torch's wheel brings its own CUDA libraries. The fused operators are compiled for the processor
# only, because this image has no nvcc; on a GPU the losses are their PyTorch reference.
FROM python:3.12-slim

# the compiler of the fused operators, and what ends the processes of data loaders
RUN apt-get update && apt-get install -y --no-install-recommends g++ tini && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/dadkit
COPY . .
ENV PIP_NO_CACHE_DIR=1
RUN pip install -e '.[onnx]'

WORKDIR /data
ENTRYPOINT ["tini", "--", "dadkit"]
CMD ["--help"]
