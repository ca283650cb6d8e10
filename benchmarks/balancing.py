"""
What GradNorm costs: a training step of the demo's model, balanced by GradNorm over the same with fixed weights.

    python benchmarks/balancing.py

Steps of both kinds take turns, so that whatever else the machine does slows both; the figure is the ratio of medians.
"""

import json
import statistics
import time
from pathlib import Path

import torch

from bdam.data.batches import PersonBatchSampler, TrainingRows
from bdam.data.pedestrians import generate_pedestrians
from bdam.recipes.recipe import load_recipe
from bdam.training.balancing import FixedWeights, GradNorm, shared_parameters
from bdam.training.building import build_collator, build_model, build_processor, parameter_groups


ROUNDS = 60


def main() -> None:
    recipe = load_recipe(Path(__file__).parents[1] / "recipes/demo.yaml", "data=generated", "output_dir=none")
    train = generate_pedestrians(64, 1, 1)["train"]
    processor = build_processor(recipe, train)
    model = build_model(recipe, processor).train()
    sampler = PersonBatchSampler(train["person_id"], recipe.persons_per_batch, recipe.images_per_person)
    rows = TrainingRows(train, processor, keep=True)
    collator = build_collator(recipe, processor)
    draws = list(sampler)
    balancers = {"fixed": FixedWeights(recipe.loss_weights), "gradnorm": GradNorm(recipe.loss_weights)}
    shared = shared_parameters(model)
    optimizers = {
        name: torch.optim.Adam(parameter_groups(model, balancer, recipe.weight_decay), lr=recipe.learning_rate)
        for name, balancer in balancers.items()
    }

    def step(name: str, draw: list) -> float:
        start = time.perf_counter()
        batch = collator([rows[image] for image in draw])
        batch.pop("image_ids")
        outputs = model(**batch, return_loss=True)
        balancer = balancers[name]
        balancer(balancer.select(outputs.loss_dict, epoch=0), shared).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
        optimizers[name].step()
        optimizers[name].zero_grad()
        return time.perf_counter() - start

    times: dict[str, list[float]] = {name: [] for name in balancers}
    for turn in range(ROUNDS):
        for name in balancers:
            times[name].append(step(name, draws[turn % len(draws)]))
    fixed, gradnorm = (1e3 * statistics.median(times[name][5:]) for name in ("fixed", "gradnorm"))
    print(f"fixed weights {fixed:.1f} ms, GradNorm {gradnorm:.1f} ms per step of {sampler.batch_size} images")
    print(json.dumps({"benchmark": "balancing", "gradnorm_over_fixed": round(gradnorm / fixed, 3)}))


if __name__ == "__main__":
    main()
