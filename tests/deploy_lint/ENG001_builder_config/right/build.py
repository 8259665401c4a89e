import tensorrt as trt

config = trt.Builder(trt.Logger()).create_builder_config()
config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 30)
