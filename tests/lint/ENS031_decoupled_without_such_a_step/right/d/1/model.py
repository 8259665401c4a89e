class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            request.get_response_sender()
