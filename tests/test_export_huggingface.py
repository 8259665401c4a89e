# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""transformers directories: real architectures with random weights, saved to disk and served as they are."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporting import Result, export, project
from trtkit.artifacts import hash_file
from trtkit.errors import ExportError, MissingDependencyError
from trtkit.export.huggingface_folder import files_of
from trtkit.export.key import export_inputs
from trtkit.export.onnx_file import MODEL_FILE
from trtkit.export.quiet import quiet

with quiet():
    import torch
    import transformers
    from huggingface_hub import constants
    from safetensors.torch import load_file, save_file

WHERE = "trtkit.yaml:3:14: "
LONGEST = 20
# the weights are large, so that outputs of different inputs differ by far more than a tolerance
TEXT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40, "vocab_size": 50,
    "max_position_embeddings": LONGEST, "initializer_range": 0.3,
}  # fmt: skip
DISTIL = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 40, "vocab_size": 50, "initializer_range": 0.3}
IMAGE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40,
    "image_size": [16, 24], "patch_size": 8, "num_channels": 1, "initializer_range": 0.3,
}  # fmt: skip
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic", "num_labels": 3}
IDS, MASK, TYPES = (f"{name} INT64 [batch, sequence]" for name in ("input_ids", "attention_mask", "token_type_ids"))
# architecture -> configuration, whether a tokenizer is saved, inputs, outputs, sequence lengths to compare
MODELS: dict[str, tuple[dict[str, Any], bool, list[str], list[str], tuple[int, ...]]] = {
    "BertForSequenceClassification": (
        {**TEXT, "num_labels": 3}, True, [IDS, TYPES, MASK], ["logits FP32 [batch, 3]"], (1, 5, LONGEST),
    ),
    "DistilBertModel": (
        {**DISTIL, "max_position_embeddings": LONGEST}, True, [IDS, MASK],
        ["last_hidden_state FP32 [batch, sequence, 32]"], (1, LONGEST),
    ),
    "BertForQuestionAnswering": (
        TEXT, False, [IDS, MASK, TYPES],
        ["start_logits FP32 [batch, sequence]", "end_logits FP32 [batch, sequence]"], (1, LONGEST),
    ),
    "RobertaForTokenClassification": (
        {**TEXT, "num_labels": 4, "type_vocab_size": 1}, False, [IDS, MASK], ["logits FP32 [batch, sequence, 4]"],
        (1, LONGEST - 2),  # positions begin behind the padding's
    ),
    "ViTForImageClassification": (
        {**IMAGE, "num_labels": 3}, False, ["pixel_values FP32 [batch, 1, 16, 24]"], ["logits FP32 [batch, 3]"], (0,),
    ),
    "BertForMaskedLM": (
        TEXT, False, [IDS, MASK, TYPES], ["logits FP32 [batch, sequence, 50]"], (3,),  # its weights are tied
    ),
}  # fmt: skip


def save(folder: Path, architecture: str, config: dict[str, Any], tokenizer: bool = False) -> Path:
    with quiet():
        found = getattr(transformers, architecture)
        torch.manual_seed(0)
        model = found(found.config_class(**config))
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # transformers begins with zeros, which hide a lost one
                torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(folder)
        if tokenizer:
            words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(chr, range(97, 123))]
            (folder / "vocab.txt").write_text("\n".join(words))
            transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of one of the models; not to be changed by a test."""
    root = tmp_path_factory.mktemp("saved")

    def directory(name: str) -> Path:
        if not (root / name).is_dir():
            config, tokenizer, *_ = MODELS.get(name, (RESNET, False))
            save(root / name, name, config, tokenizer)
        return root / name

    return directory


def serve(folder: Path, source: Path, block: str = "") -> Result:
    """Export a directory from where it is."""
    return export(project(folder, f"source: {{huggingface: {source}}}\n{block}"))


@pytest.fixture(scope="module")
def served(saved: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Result]:
    """The export of one of the models, with nothing else in the project file; made once."""

    @cache
    def made(name: str) -> Result:
        return serve(tmp_path_factory.mktemp("served"), saved(name))

    return made


def refused(folder: Path, source: Path, block: str = "") -> str:
    with pytest.raises(ExportError) as caught:
        serve(folder, source, block)
    message = str(caught.value)
    assert message.startswith(WHERE)
    assert message.isprintable()
    assert len(message) < 800
    return message.removeprefix(WHERE)


def reference(source: Path, architecture: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What transformers itself computes, with its own choice of attention."""
    with quiet(), torch.no_grad():
        model = getattr(transformers, architecture).from_pretrained(source).float().eval()
        answer = model(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    return {name: value.numpy() for name, value in answer.items()}


def requests(result: Result, batch: int, length: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(batch)
    made: dict[str, np.ndarray] = {}
    for spec in result.exported.signature.inputs:
        low, high = result.facts["ranges"].get(spec.name, (0, 0))
        shape = [
            dim if isinstance(dim, int) else size for dim, size in zip(spec.shape, (batch, length, 0, 0), strict=False)
        ]
        made[spec.name] = (
            rng.standard_normal(shape).astype(np.float32) if high == 0 else rng.integers(low, high, shape, np.int64)
        )
    if "attention_mask" in made:
        made["attention_mask"][:, 0] = 1
    return made


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert np.abs(array).max() > 0.05, "values near zero prove little"
        assert np.allclose(found[name], array, atol=2e-4 * float(np.abs(array).max())), name


@pytest.mark.parametrize("name", MODELS)
def test_a_directory_is_served_as_transformers_runs_it(
    name: str, saved: Callable[[str], Path], served: Callable[[str], Result]
) -> None:
    _, _, inputs, outputs, lengths = MODELS[name]
    result = served(name)
    assert (result.inputs, result.outputs, result.size) == (inputs, outputs, 8)
    assert result.facts["batch"]["proven"] == [1, 2, 8]
    assert result.facts["source"] == "huggingface"
    assert result.facts["parity"]["compared"]
    assert list(result.facts["parity"]["outputs"]) == [output.split()[0] for output in outputs]
    assert result.facts["ranges"].get("input_ids", [0, 50]) == [0, 50]
    for batch, length in product((1, 3), lengths):
        made = requests(result, batch, length)
        assert_equal(result.run(**made), reference(saved(name), name, made))


def test_a_sequence_longer_than_the_positions_is_an_error_and_not_a_guess(served: Callable[[str], Result]) -> None:
    result = served("BertForSequenceClassification")
    with pytest.raises(ExportError, match="20 by 21"):
        result.run(**requests(result, 1, LONGEST + 1))


def test_a_row_that_is_all_padding_gives_numbers(served: Callable[[str], Result]) -> None:
    ids = np.arange(6, dtype=np.int64).reshape(1, 6)
    for mask in (np.ones_like(ids), np.zeros_like(ids)):
        found = served("DistilBertModel").run(input_ids=ids, attention_mask=mask)
        assert np.isfinite(found["last_hidden_state"]).all()
    operators = {node.op_type for node in served("DistilBertModel").model.graph.node}
    assert "Softmax" in operators
    assert "IsNaN" not in operators, "attention that mends NaN afterwards takes two more operators in each layer"


def test_the_project_file_chooses_inputs_and_outputs(saved: Callable[[str], Path], tmp_path: Path) -> None:
    source = saved("BertForQuestionAnswering")
    block = (
        "inputs: {attention_mask: {shape: [batch, 6]}, input_ids: {data_type: INT32, shape: [batch, 6]}}\n"
        "outputs: [end_logits]"
    )
    result = serve(tmp_path, source, block)
    assert result.inputs == ["attention_mask INT64 [batch, 6]", "input_ids INT32 [batch, 6]"]
    assert result.outputs == ["end_logits FP32 [batch, 6]"]
    mask = np.array([[1, 1, 1, 0, 0, 0]], np.int64)
    ids = np.arange(10, 16, dtype=np.int32)[None]
    expected = reference(source, "BertForQuestionAnswering", {"input_ids": ids, "attention_mask": mask})
    assert_equal(result.run(input_ids=ids, attention_mask=mask), {"end_logits": expected["end_logits"]})


def test_equal_directories_give_equal_files(
    saved: Callable[[str], Path], served: Callable[[str], Result], tmp_path: Path
) -> None:
    copy = shutil.copytree(saved("ViTForImageClassification"), tmp_path / "elsewhere")
    first, second = served("ViTForImageClassification"), serve(tmp_path, copy)
    assert (first.folder / MODEL_FILE).read_bytes() == (second.folder / MODEL_FILE).read_bytes()


def test_weights_in_half_precision_and_pickled_are_served_in_fp32_without_a_word(
    saved: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = shutil.copytree(saved("ViTForImageClassification"), tmp_path / "half")
    weights = load_file(source / "model.safetensors")
    torch.save({name: tensor.half() for name, tensor in weights.items()}, source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    configure(source, dtype="float16", torch_dtype="float16")  # the second is deprecated in 5
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = serve(tmp_path / "project", source, "outputs: [scores]")
    assert capfd.readouterr() == ("", "")
    assert [str(w.message) for w in caught if "transformers" in w.filename or "torch" in w.filename] == []
    assert result.inputs == ["pixel_values FP32 [batch, 1, 16, 24]"]
    assert result.outputs == ["scores FP32 [batch, 3]"]
    made = requests(result, 2, 0)
    expected = reference(source, "ViTForImageClassification", made)
    assert_equal(result.run(**made), {"scores": expected["logits"]})


def test_the_image_of_a_preprocessor_counts_where_the_configuration_has_none(
    saved: Callable[[str], Path], tmp_path: Path
) -> None:
    source = shutil.copytree(saved("ResNetForImageClassification"), tmp_path / "resnet")
    assert refused(tmp_path / "a", source).startswith(
        "neither config.json (image_size) nor preprocessor_config.json (size) in resnet says how large an image is"
    )
    settings = {"crop_size": {"height": 32, "width": 64}, "size": {"shortest_edge": 256}, "do_center_crop": True}
    (source / "preprocessor_config.json").write_text(json.dumps(settings))
    result = serve(tmp_path / "b", source)
    assert result.inputs == ["pixel_values FP32 [batch, 3, 32, 64]"]


def test_a_callable_may_give_the_model(saved: Callable[[str], Path], tmp_path: Path) -> None:
    source = saved("ViTForImageClassification")
    code = (
        "import transformers\ndef make():\n"
        f"    return transformers.ViTForImageClassification.from_pretrained({str(source)!r})\n"
    )
    block = "source: {callable: source.py:make}\ninputs: {pixel_values: {shape: [batch, 1, 16, 24]}}"
    with quiet():
        result = export(project(tmp_path, block, source_py=code))
    assert result.facts["source"] == "torch"
    rows = requests(result, 2, 0)
    assert_equal(result.run(**rows), reference(source, "ViTForImageClassification", rows))


def test_a_callable_may_give_the_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    code = "def make():\n    return 'model'\n"
    for kind, reason in {
        "callable": "model is no transformers directory: it is empty; save one with save_pretrained",
        "torch": "'source.py:make' gave the path of a folder; a torch.nn.Module or a torch.export program, ",
    }.items():
        with pytest.raises(ExportError) as caught:
            export(project(tmp_path, f"source: {{{kind}: source.py:make}}", source_py=code))
        assert str(caught.value).startswith(WHERE + reason)


# -- refusals


def configure(source: Path, **changes: Any) -> None:
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, **changes}))


def weights_without(*names: str) -> Callable[[Path], None]:
    def change(source: Path) -> None:
        weights = load_file(source / "model.safetensors")
        for name in names:
            del weights[name]
        save_file(weights, source / "model.safetensors", {"format": "pt"})

    return change


def content(name: str, text: str) -> Callable[[Path], object]:
    return lambda source: (source / name).write_text(text)


def settings(**changes: Any) -> Callable[[Path], None]:
    return lambda source: configure(source, **changes)


def to_index(source: Path) -> None:
    (source / "model.safetensors").unlink()
    content("model.safetensors.index.json", '{"weight_map": {"a": "model-1.safetensors"}}')(source)


def cut(source: Path) -> None:
    whole = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(whole[: len(whole) // 2])


# what is done to a BertForSequenceClassification, the sentence
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config.json": (
        lambda source: (source / "config.json").unlink(),
        "bert is no transformers directory: it has no config.json, only model.safetensors, tokenizer.json, ",
    ),
    "no JSON": (content("config.json", "{"), "bert/config.json cannot be read as JSON: Expecting property name"),
    "no object": (content("config.json", "[]"), "bert/config.json holds no JSON object"),
    "no weights": (
        lambda source: (source / "model.safetensors").unlink(),
        "bert has no weights: neither model.safetensors nor pytorch_model.bin nor the index of a split one is there",
    ),
    "TensorFlow's weights": (
        lambda source: (source / "model.safetensors").rename(source / "tf_model.h5"),
        "bert has no weights: neither model.safetensors nor pytorch_model.bin nor the index of a split one is there; "
        "tf_model.h5 is none of these",
    ),
    "a part of split weights is missing": (
        to_index,
        "bert/model.safetensors.index.json names model-1.safetensors, which is not there; copy it too",
    ),
    "a pointer of Git LFS": (
        content("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"),
        "bert/model.safetensors is a pointer of Git LFS and not the weights; run: git lfs pull",
    ),
    "half of the weights": (cut, "BertForSequenceClassification cannot be loaded from bert: SafetensorError: "),
    "weights of another head": (
        settings(id2label={"0": "a", "1": "b"}, label2id={"a": 0, "b": 1}),
        "the weights in bert are not those of its config.json: classifier.bias has the shape [3], and "
        "BertForSequenceClassification needs [2] (and 1 more)",
    ),
    "weights without a head": (
        weights_without("classifier.bias", "classifier.weight"),
        "the weights in bert lack 2 that BertForSequenceClassification needs, and transformers would take random "
        "values: classifier.bias, classifier.weight; save the whole trained model, or name the architecture",
    ),
    "weights of another architecture": (
        settings(architectures=["BertForQuestionAnswering"]),
        "the weights in bert lack 2 that BertForQuestionAnswering needs, and transformers would take random values: "
        "qa_outputs.bias, qa_outputs.weight;",
    ),
    "no architecture": (
        settings(architectures=None),
        'bert/config.json has to name one architecture, as in "architectures": ["BertForSequenceClassification"]; '
        "got None",
    ),
    "a misspelt architecture": (
        settings(architectures=["BertForSequenceClasification"]),
        f"transformers {transformers.__version__} has no architecture BertForSequenceClasification (model_type "
        "'bert'); did you mean 'BertForSequenceClassification'?",
    ),
    "an architecture of the future": (
        settings(architectures=["QuxForSequenceClassification"], model_type="qux", transformers_version="9.1.0"),
        f"transformers {transformers.__version__} has no architecture QuxForSequenceClassification (model_type "
        "'qux'); install the version it was saved with (9.1.0)",
    ),
    "a name that is no model": (
        settings(architectures=["BertConfig"]),
        f"transformers {transformers.__version__} has no architecture BertConfig (model_type 'bert'); install",
    ),
    "an architecture of its own": (
        settings(architectures=["QuxModel"], model_type="qux", auto_map={"AutoModel": "qux.QuxModel"}),
        "the architecture QuxModel comes with Python code of its own (auto_map in config.json), which is never run",
    ),
    "another model_type": (
        settings(architectures=["RobertaForSequenceClassification"]),
        "bert/config.json contradicts itself: the architecture RobertaForSequenceClassification is of the model_type "
        "'roberta', and 'bert' is given",
    ),
    "a decoder": (
        settings(architectures=["LlamaForCausalLM"], model_type="llama"),
        "LlamaForCausalLM generates text token by token with a cache between the steps, which one call of a graph is "
        "not; serve it with Triton's vLLM or TensorRT-LLM backend, or give one forward pass of it",
    ),
    "a decoder by another name": (
        settings(architectures=["ReformerModelWithLMHead"], model_type="reformer"),
        "ReformerModelWithLMHead generates text token by token",
    ),
    "quantized weights": (
        settings(quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True}),
        "the weights in bert are quantized (bitsandbytes), which no ONNX graph can be made of; give the unquantized",
    ),
    "an adapter": (
        content("adapter_config.json", "{}"),
        "bert holds a PEFT adapter, which is no model by itself; merge it into its base model (merge_and_unload)",
    ),
    "a configuration that is none": (
        settings(num_attention_heads=5),
        "BertForSequenceClassification cannot be loaded from bert: ValueError: The hidden size (32) is not a multiple",
    ),
    "a damaged tokenizer": (
        content("tokenizer.json", "{"),
        "the tokenizer in bert cannot be read: JSONDecodeError: Expecting property name enclosed in double quotes",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_directory_is_refused_in_one_sentence(name: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    change, expected = BROKEN[name]
    source = shutil.copytree(saved("BertForSequenceClassification"), tmp_path / "bert")
    change(source)
    assert refused(tmp_path, Path("bert")).startswith(expected)


BLOCKS = {
    "an unknown input": (
        "inputs: {input_idz: {shape: [batch, 16]}}",
        "`inputs:` names 'input_idz', which BertForSequenceClassification does not take; did you mean 'input_ids'?",
    ),
    "too few inputs": (
        "inputs: {attention_mask: {shape: [batch, 16]}}",
        "BertForSequenceClassification itself fails on attention_mask [3, 16]: ValueError: You ",
    ),
    "a sequence that is too long": (
        "inputs: {input_ids: {shape: [batch, 21]}}",
        "BertForSequenceClassification itself fails on input_ids [3, 21]: ",
    ),
    "too many outputs": (
        "outputs: [a, b]",
        "`outputs:` has 2 new names (a, b) for the 1 outputs of the model: logits",
    ),
    "an output that is and one that is not": (
        "outputs: [logits, hidden]",
        "`outputs:` has 'logits', which the model gives, and 'hidden', which it does not; available: logits",
    ),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_names_that_are_not_the_models_are_refused(name: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    block, expected = BLOCKS[name]
    assert refused(tmp_path, saved("BertForSequenceClassification"), block).startswith(expected)


# -- nothing is fetched, nothing is run


class _Touch:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def test_pickled_code_is_not_run(saved: Callable[[str], Path], tmp_path: Path) -> None:
    source = shutil.copytree(saved("ViTForImageClassification"), tmp_path / "vit")
    weights = load_file(source / "model.safetensors")
    torch.save({**weights, "more": _Touch(tmp_path / "marker")}, source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    assert refused(tmp_path, source) == (
        "ViTForImageClassification cannot be loaded from vit: its .bin file is damaged or holds Python objects, which "
        "are never loaded; save it as safetensors"
    )
    assert not (tmp_path / "marker").exists()


def test_code_in_the_directory_is_not_run_and_nothing_is_fetched(
    saved: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = shutil.copytree(saved("BertForSequenceClassification"), tmp_path / "bert")
    configure(source, auto_map={"AutoConfig": "own.Config", "AutoModel": "own.Model"})
    (source / "own.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'marker')!r})\n")
    calls: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **_: calls.append(args))
    monkeypatch.setattr(socket.socket, "connect", lambda *args: calls.append(args))
    offline: list[bool] = []
    loading = transformers.BertForSequenceClassification.from_pretrained

    def watched(*args: Any, **kwargs: Any) -> Any:
        offline.append(constants.HF_HUB_OFFLINE)
        return loading(*args, **kwargs)

    monkeypatch.setattr(transformers.BertForSequenceClassification, "from_pretrained", watched)
    before = constants.HF_HUB_OFFLINE
    assert refused(tmp_path, source, "outputs: [a, b]").startswith("`outputs:` has 2 new names")  # after all loading
    assert not (tmp_path / "marker").exists()
    assert (calls, offline, constants.HF_HUB_OFFLINE) == ([], [True], before)


def test_without_transformers_the_extra_is_named(
    saved: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match=r"transformers .*; run: pip install 'trtkit\[huggingface\]'"):
        serve(tmp_path, saved("BertForSequenceClassification"))


# -- what decides the result


def test_the_files_that_count_are_found_even_where_they_are_absent(
    saved: Callable[[str], Path], tmp_path: Path
) -> None:
    source = shutil.copytree(saved("BertForSequenceClassification"), tmp_path / "bert")
    (source / "README.md").write_text("of no account")
    (source / "model-00001-of-00002.safetensors").write_bytes(b"")
    found = {path.name: hash_file(path) for path in files_of(source)}
    held = {path.name for path in source.iterdir()} - {"README.md"}
    assert held <= {name for name, digest in found.items() if digest != "absent"}
    for name in ("pytorch_model.bin", "preprocessor_config.json", "model.safetensors.index.json"):
        assert found[name] == "absent"
    assert files_of(tmp_path / "none")


def test_finding_them_loads_nothing_heavy() -> None:
    code = (
        "import sys, trtkit.export.huggingface_folder, trtkit.export.key\n"
        "print(sorted({'torch', 'transformers', 'onnx', 'numpy', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_the_version_of_transformers_is_part_of_the_key(saved: Callable[[str], Path], tmp_path: Path) -> None:
    made = project(tmp_path, f"source: {{huggingface: {saved('ViTForImageClassification')}}}")
    inputs = export_inputs(made.models["m"])
    assert inputs["transformers"] == transformers.__version__
    # the metadata of some builds leave out what they are for, as in 2.13.0+cu130
    assert inputs["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
