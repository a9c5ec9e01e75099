"""Two ways to write down the same words, and the prompt that asks a model for one of them.

"written" is cased and punctuated, "plain" is lower case without marks. A model that was taught both (`plain_share` in its
recipe) writes plain where it is asked to, and written where nothing is asked for. What asks stands where Whisper is told
what was said before, so that any runtime can give it: as `initial_prompt`, or whatever that is called there.
"""

from typing import Literal

from hvisk.tokens import Tokens

Style = Literal["written", "plain"]

# What asks for a style is written in it. Short: in a small vocabulary each letter takes one of the decoder's 448 places.
PROMPTS: dict[Style, str] = {"written": "", "plain": "med små bogstaver uden tegn"}


# Of what was said before, at most half of the decoder's positions, as in OpenAI's Whisper (whisper/decoding.py).
PROMPT_TOKENS = 448 // 2 - 1


def ask(tokens: Tokens, prompt: str) -> list[int]:
    """Return the ids of a text that stands before those of `Tokens.prompt`; none for "".

    They are those that stock runtimes make of an `initial_prompt`: with a blank in front, whatever the vocabulary.
    """
    return [tokens.start_of_previous, *tokens.encode(prompt, inside=True)] if prompt else []
