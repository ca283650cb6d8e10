"""BDAM under transformers' own common model tests: `make conformance`."""

import unittest

import torch
from tiny import VISION
from transformers.testing_utils import require_torch, torch_device
from transformers_tests.test_configuration_common import ConfigTester
from transformers_tests.test_modeling_common import ModelTesterMixin, floats_tensor, ids_tensor, random_attention_mask

from configuration_bdam import BDAMConfig
from modeling_bdam import BDAMModel


# These ask a model for the inside of its one encoder; transformers skips them for composite models such as CLIP too.
SKIPPED = {
    "test_attention_outputs": "Attentions are in the outputs of the encoders.",
    "test_hidden_states_output": "Hidden states are in the outputs of the encoders.",
    "test_retain_grad_hidden_states_attentions": "Hidden states are in the outputs of the encoders.",
}


class BDAMModelTester:
    """A tiny BDAM, and two images of each of two persons with every text there can be."""

    batch_size = 4
    seq_length = 7
    num_hidden_layers = 2
    is_training = True
    vision_config = {**VISION, "intermediate_size": 37}
    text_config = {
        "model_type": "bert",
        "hidden_size": 24,
        "num_hidden_layers": num_hidden_layers,
        "num_attention_heads": 2,
        "intermediate_size": 37,
        "vocab_size": 99,
    }

    def __init__(self, fusion_mode: str):
        self.fusion_mode = fusion_mode

    def get_config(self) -> BDAMConfig:
        return BDAMConfig(
            vision_config=dict(self.vision_config),
            text_config=dict(self.text_config),
            num_branch_layers=2,
            num_branch_heads=2,
            branch_intermediate_size=37,
            fusion_mode=self.fusion_mode,
            fusion_hidden_size=16,
            projection_dim=16,
            temperature=1.0,  # logits are compared by absolute tolerances, also in float16
        )

    def prepare_config_and_inputs_for_common(self) -> tuple[BDAMConfig, dict[str, torch.Tensor]]:
        inputs = {"pixel_values": floats_tensor([self.batch_size, 3, *self.vision_config["image_size"]])}
        for prefix in ("", "identity_", "clothing_"):
            shape = [self.batch_size, self.seq_length]
            # The last words stay unused: `test_resize_tokens_embeddings` takes 15 of them away.
            inputs[f"{prefix}input_ids"] = ids_tensor(shape, self.text_config["vocab_size"] - 15)
            inputs[f"{prefix}attention_mask"] = random_attention_mask(shape)
        return self.get_config(), inputs


@require_torch
class BDAMModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (BDAMModel,)
    additional_model_inputs = ["input_ids", "identity_input_ids", "clothing_input_ids"]
    _is_composite = True
    fusion_mode = "pooled"

    def setUp(self):
        if self._testMethodName in SKIPPED:
            self.skipTest(SKIPPED[self._testMethodName])
        self.model_tester = BDAMModelTester(self.fusion_mode)
        self.config_tester = ConfigTester(
            self,
            config_class=BDAMConfig,
            has_text_modality=False,
            common_properties=["projection_dim", "temperature"],
            projection_dim=37,
        )

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels=return_labels)
        if return_labels:  # all losses, in the tests that train
            inputs["person_ids"] = torch.arange(self.model_tester.batch_size, device=torch_device) // 2
            inputs["return_loss"] = True
        return inputs

    def test_config(self):
        self.config_tester.run_common_tests()


class BDAMTokensModelTest(BDAMModelTest):
    fusion_mode = "tokens"
