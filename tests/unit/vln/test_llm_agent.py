"""A language model in the place of an agent: its prompt, its answers, what it is told of memory."""

from __future__ import annotations

import re

import pytest
from street_town import GOAL, SIGHTS, TEXT, go, names, toured

from vision_mem.errors import ModelError
from vision_mem.vln.llm_agent import LanguageAgent, LanguageConfig, read_action


def scripted(prompts: list[str]):
    """Does what a model would: reads the prompt's last line, and the memory's words in it."""

    def complete(prompt: str) -> str:
        prompts.append(prompt)
        now = prompt.splitlines()[-1]
        told = re.search(r"remember red pharmacy [\w ]+, (\d+) metres", now)
        at_corner = "is red pharmacy" in now or (told is not None and int(told[1]) < 20)
        if "intersection" in now and at_corner:
            turned = any(line.split()[-1] == "left" for line in prompt.splitlines())
            return "Forward!" if turned else "Turn left, because of the pharmacy."
        return "stop" if "is blue bank on" in now else " forward\n9. turn_around"

    return complete


@pytest.mark.parametrize("navigator", ["touchdown", "velma"])
def test_a_scripted_model_drives(navigator: str) -> None:
    prompts: list[str] = []
    episode = go(LanguageAgent(scripted(prompts)), navigator=navigator)
    assert names(episode) == GOAL
    assert episode.actions.count("left") == 1
    assert len(prompts) == len(episode.actions)
    assert TEXT in prompts[0]
    assert prompts[-1].count("forward") >= len(GOAL.split()) - 1
    assert "There is a four-way intersection. There is red pharmacy on your left." in prompts[-1]
    assert prompts[-1].endswith("There is blue bank on your right. Next action:")


def test_a_model_is_told_what_is_remembered() -> None:
    prompts: list[str] = []
    agent = LanguageAgent(scripted(prompts), memory=toured("e2 e1 B m1 m2 m3 m4"))
    episode = go(agent, {"m3": SIGHTS["m3"]})
    assert names(episode) == GOAL
    crossings = [p.splitlines()[-1] for p in prompts if "intersection" in p.splitlines()[-1]]
    assert "You remember red pharmacy ahead, 49 metres away." in crossings[0]
    assert "You remember red pharmacy on your left, 11 metres away." in crossings[1]


def test_answers_without_an_action_mean_forward_and_are_counted() -> None:
    agent = LanguageAgent(lambda prompt: "I cannot say.")
    assert names(go(agent)).startswith("w1 A a b c B e1")
    assert agent.unread > 5
    lines = LanguageAgent(lambda prompt: "forward", LanguageConfig(lines=3))
    go(lines)
    assert lines.prompt.count("\n") < 8
    assert "earlier steps)" in lines.prompt


def test_a_model_that_fails_gets_one_line() -> None:
    def broken(prompt: str) -> str:
        raise RuntimeError("no\nnetwork")

    with pytest.raises(ModelError, match=r"model failed \(RuntimeError\): no network"):
        go(LanguageAgent(broken))


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        ("forward", "forward"), ("Turn left.", "left"), ("turn around now", "turn_around"),
        ("TURN_AROUND", "turn_around"), ("1) stop", "stop"), ("leftover", None), ("", None),
        ("go", None), ("right, then left", "right"),
    ],
)  # fmt: skip
def test_reading_an_answer(answer: str, action: str | None) -> None:
    velma = ("forward", "left", "right", "stop", "turn_around")
    assert read_action(answer, velma) == action
    if action == "turn_around":
        assert read_action(answer, velma[:4]) is None
