#!/bin/sh
nvidia-smi -i 0 -mig 1
nvidia-smi mig -cgi 3g.40gb,3g.40gb -C
