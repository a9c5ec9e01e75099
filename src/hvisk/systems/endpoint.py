"""A server that speaks OpenAI's POST /v1/audio/transcriptions: OpenAI's own, vLLM, speaches, whisper.cpp's and others.

The clips leave this machine for the address that was given, and for no other.
"""

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import soundfile
from numpy.typing import NDArray

from hvisk.audio import SAMPLE_RATE
from hvisk.errors import ModelError, Unavailable
from hvisk.systems.system import System, need, versions

AT_ONCE = 4  # requests; what waits for the network waits in parallel
TIMEOUT = 120.0  # seconds
RETRIES = 5  # by the client, which waits longer each time, or as long as the server asks for
_ROUTE = "/audio/transcriptions"


def open_endpoint(address: str, name: str, *, language: str = "da", beam_size: int = 1, threads: int = 0) -> System:
    """Open "URL#model"; URL ends in /v1 on most servers. threads: requests at once, 0 is 4.

    The key is OPENAI_API_KEY; servers of one's own mostly ask for none. The protocol knows no beam, so that `beam_size`
    has no effect. What a remote model is cannot be known: it has no size, and nothing that it says is cached. Raises
    MissingExtra without the package openai, ModelError for an address without a model.
    """
    need("openai", "openai", name)
    import openai

    url, _, model = address.partition("#")
    url = url.rstrip("/").removesuffix(_ROUTE)
    if not url.startswith(("http://", "https://")) or not model:
        raise ModelError(
            f"'{name}' is no endpoint. Accepted: api:URL#MODEL, as in api:https://api.openai.com/v1#whisper-1"
        )
    key = os.environ.get("OPENAI_API_KEY") or "none"
    client = openai.OpenAI(
        base_url=url,
        api_key=key,
        timeout=TIMEOUT,
        max_retries=RETRIES,
        http_client=openai.DefaultHttpxClient(follow_redirects=False),
    )

    def ask(clip: NDArray[np.float32]) -> str:
        sound = io.BytesIO()
        soundfile.write(sound, np.clip(clip, -1, 1), SAMPLE_RATE, format="WAV", subtype="PCM_16")
        try:
            answer = client.audio.transcriptions.create(
                model=model,
                file=("clip.wav", sound.getvalue(), "audio/wav"),
                language=language,
                response_format="json",
                temperature=0.0,
            )
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise Unavailable(f"{url} refuses the key ({error}). Set OPENAI_API_KEY to one that it takes.") from error
        except openai.NotFoundError as error:
            raise Unavailable(f"{url} has no {_ROUTE} or no model '{model}' ({error}).") from error
        except openai.RateLimitError as error:
            raise Unavailable(f"{url} takes no more requests for now ({error}). Go on later.") from error
        except openai.APIConnectionError as error:
            raise Unavailable(f"{url} does not answer ({error}). Is the server running? Go on later.") from error
        except openai.APIStatusError as error:
            if error.status_code in (502, 503, 504):  # what stands before the server says that it is gone
                raise Unavailable(f"{url} is not there at present ({error}). Go on later.") from error
            raise
        return str(answer.text).strip()

    def recognise(clips: Sequence[NDArray[np.float32]]) -> list[str]:
        with ThreadPoolExecutor(threads or AT_ONCE) as pool:
            return list(pool.map(ask, clips))

    return System(
        name=name,
        kind="api",
        recognise=recognise,
        settings={"model": name, "system": "api", "language": language, "temperature": 0.0},
        software=versions("openai"),
    )
