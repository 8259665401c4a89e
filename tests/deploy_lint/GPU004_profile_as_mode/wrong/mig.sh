#!/bin/sh
set -e
sudo nvidia-smi -i 0 -mig 1g.10gb
