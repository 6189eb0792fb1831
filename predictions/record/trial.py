"""Ask Redis once whether the URL is right, before a process depends on it."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.retry import Retry

from predictions.errors import WrongSetting

ANSWER_SECONDS = 2.0


def require_redis(url: str) -> None:
    """Raise WrongSetting where Redis answers that its URL is wrong.

    Where it does not answer, nothing is wrong with the URL for all that is known: processes wait until Redis is there.
    """
    client: redis.Redis = redis.Redis.from_url(
        url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS, retry=Retry(NoBackoff(), 0)
    )
    try:
        client.ping()
    except AuthenticationError as error:
        reason = str(error).rstrip(".")
        raise WrongSetting(
            f"MUSICGEN_REDIS_URL: Redis says {reason}; correct the user and the password in it."
        ) from error
    except ResponseError as error:
        # Where the disk is full, it refuses even a ping.
        if "DB index" in str(error):
            raise WrongSetting(
                f"MUSICGEN_REDIS_URL: Redis says {error}; correct the number after the slash."
            ) from error
    except (RedisError, OSError):
        pass
    finally:
        client.close()
