import tensorrt as trt

config = trt.Builder(trt.Logger()).create_builder_config()
config.max_workspace_size = 1 << 30
