# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A plan as Kubernetes objects; as kustomize, as a Helm chart."""
