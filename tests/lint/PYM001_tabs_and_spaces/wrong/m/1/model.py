class TritonPythonModel:
    def execute(self, requests):
	    a = 1
            return []
