#!/bin/sh
trtexec --onnx=digits.onnx --saveEngine=models/digits/2/model.plan
