import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        tensors = [pb_utils.Tensor("y", x)]
        if "doubled" in request.requested_output_names():
            tensors.append(pb_utils.Tensor("doubled", x * 2))
        return pb_utils.InferenceResponse(tensors)
