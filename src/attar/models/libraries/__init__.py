"""Networks of other libraries by name: timm, torchvision, a Hugging Face folder, an ONNX file, EfficientNet-Lite."""
