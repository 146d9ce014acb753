"""transformers' common tests (its package `tests`) on the AST of the package under test. Run by run_mixins.py."""

from __future__ import annotations

import sys
import unittest
from types import SimpleNamespace
from typing import Any

import numpy as np
import stand_ins  # noqa: F401 (before the modules that import them)
import tests.test_pipeline_mixin as pipeline_mixin
import torch
import transformers
from side import SIDE, package
from tests.test_configuration_common import ConfigTester
from tests.test_modeling_common import ModelTesterMixin, floats_tensor, ids_tensor
from tests.test_sequence_feature_extraction_common import SequenceFeatureExtractionTestMixin
from transformers.testing_utils import torch_device

# The pipeline's mixin looks the extractor up by its name, which is the same in both packages.
pipeline_mixin.transformers_module = SimpleNamespace(ASTFeatureExtractor=package.ASTFeatureExtractor)


class TinyModels:
    """Configurations and inputs of a few kilobytes, with patches that overlap along time."""

    batch_size = 3
    num_mel_bins = 16
    max_length = 23
    num_labels = 5
    hidden_size = 32
    num_hidden_layers = 2
    num_attention_heads = 4
    seq_length = 4 * 7 + 2  # patches along frequency and time, and two special tokens
    is_training = True

    def get_config(self) -> Any:
        return package.ASTConfig(
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=40,
            hidden_act="gelu",
            patch_size=4,
            frequency_stride=4,
            time_stride=3,
            num_mel_bins=self.num_mel_bins,
            max_length=self.max_length,
            num_labels=self.num_labels,
        )

    def prepare_config_and_inputs_for_common(self) -> tuple[Any, dict[str, torch.Tensor]]:
        values = floats_tensor([self.batch_size, self.max_length, self.num_mel_bins])
        return self.get_config(), {"input_values": values}


class ModelTest(ModelTesterMixin, pipeline_mixin.PipelineTesterMixin, unittest.TestCase):
    """ModelTesterMixin and PipelineTesterMixin."""

    all_model_classes = (package.ASTModel, package.ASTForAudioClassification)
    pipeline_model_mapping = {"audio-classification": package.ASTForAudioClassification}  # noqa: RUF012
    test_resize_embeddings = False  # there is no vocabulary
    test_can_init_all_missing_weights_before_2023 = True  # about the copyright year of the file

    def setUp(self) -> None:
        self.model_tester = TinyModels()

    @unittest.skip("patches are embedded by a convolution, which is no nn.Embedding")
    def test_model_get_set_embeddings(self) -> None: ...

    def test_package_under_test(self) -> None:
        """Auto classes and the pipeline return the classes under test; stock runs without ast_hf."""
        config = self.model_tester.get_config()
        model = transformers.AutoModelForAudioClassification.from_config(config)
        extractor = package.ASTFeatureExtractor(
            num_mel_bins=config.num_mel_bins, max_length=config.max_length
        )
        pipeline = transformers.pipeline("audio-classification", model=model, feature_extractor=extractor)
        assert type(transformers.AutoConfig.for_model(config.model_type)) is package.ASTConfig
        assert type(transformers.AutoModel.from_config(config)) is package.ASTModel
        assert type(model) is package.ASTForAudioClassification
        whose = "transformers." if SIDE == "stock" else "ast_hf."
        assert all(type(part).__module__.startswith(whose) for part in (config, model, extractor, pipeline))
        assert ("ast_hf" in sys.modules) == (SIDE != "stock")

    def test_labels(self) -> None:
        """Scores have one column per label; the loss has gradients."""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        labels = ids_tensor([self.model_tester.batch_size], self.model_tester.num_labels)
        model = package.ASTForAudioClassification(config).to(torch_device)
        outputs = model(**inputs, labels=labels)
        assert tuple(outputs.logits.shape) == (self.model_tester.batch_size, self.model_tester.num_labels)
        outputs.loss.backward()
        assert float(model.classifier.dense.weight.grad.abs().sum()) > 0

    def test_hidden_state_shape(self) -> None:
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        outputs = package.ASTModel(config).to(torch_device)(**inputs)
        expected = (self.model_tester.batch_size, self.model_tester.seq_length, self.model_tester.hidden_size)
        assert tuple(outputs.last_hidden_state.shape) == expected


class ConfigurationTest(unittest.TestCase):
    """ConfigTester, with a width that the heads divide and with one that they do not."""

    model_tester = TinyModels()

    def _run(self, hidden_size: int) -> None:
        tester = ConfigTester(
            self, config_class=package.ASTConfig, has_text_modality=False, hidden_size=hidden_size
        )
        tester.run_common_tests()

    def test_configuration(self) -> None:
        self._run(36)

    def test_configuration_of_a_width_that_heads_do_not_divide(self) -> None:
        self._run(37)


class TinyClips:
    """Sequences of growing lengths, to test padding and truncation."""

    batch_size = 5
    min_seq_length = 400
    max_seq_length = 2_000
    seq_length_diff = (max_seq_length - min_seq_length) // (batch_size - 1)
    feature_size = 1

    def prepare_feat_extract_dict(self) -> dict[str, Any]:
        return {
            "feature_size": self.feature_size,
            "padding_value": 0.0,
            "sampling_rate": 16_000,
            "num_mel_bins": 32,
            "max_length": 48,
            "do_normalize": False,
            "mean": -5.5,
            "std": 3.25,
            "return_attention_mask": False,
        }

    def prepare_inputs_for_common(self, equal_length: bool = False, numpify: bool = False) -> list[Any]:
        lengths = [self.min_seq_length + index * self.seq_length_diff for index in range(self.batch_size)]
        if equal_length:
            lengths = [self.max_seq_length] * self.batch_size
        noise = np.random.default_rng(7)
        clips = [noise.uniform(-1, 1, length).astype(np.float32) for length in lengths]
        return clips if numpify else [clip.tolist() for clip in clips]


class FeatureExtractorTest(SequenceFeatureExtractionTestMixin, unittest.TestCase):
    """SequenceFeatureExtractionTestMixin, which includes FeatureExtractionSavingTestMixin."""

    feature_extraction_class = package.ASTFeatureExtractor

    def setUp(self) -> None:
        self.feat_extract_tester = TinyClips()

    def test_call(self) -> None:
        """Lists and arrays give the same features, of the shape that the model takes."""
        extractor = self.feature_extraction_class(**self.feat_extract_dict)
        arrays = self.feat_extract_tester.prepare_inputs_for_common(numpify=True)
        lists = self.feat_extract_tester.prepare_inputs_for_common()
        from_arrays = extractor(arrays, sampling_rate=16_000, return_tensors="np").input_values
        from_lists = extractor(lists, sampling_rate=16_000, return_tensors="np").input_values
        assert from_arrays.shape == (self.feat_extract_tester.batch_size, 48, 32)
        np.testing.assert_allclose(from_arrays, from_lists, atol=1e-4)
        alone = extractor(arrays[1], sampling_rate=16_000, return_tensors="np").input_values
        np.testing.assert_allclose(alone[0], from_arrays[1], atol=1e-4)
