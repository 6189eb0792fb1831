-- A worker's farewell. Given: worker (its name), queue. Returns 1, or 0 where it was not known.
return redis.call('ZREM', KEY.workers(given.queue), given.worker)
