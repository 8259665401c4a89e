from triton_python_backend_utils import InferenceResponse, get_input_tensor_by_name


class TritonPythonModel:
    def execute(self, requests):
        from triton_python_backend_utils import Tensor

        return [
            InferenceResponse([Tensor("y", get_input_tensor_by_name(request, "x").as_numpy())]) for request in requests
        ]
