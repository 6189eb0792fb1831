-- A worker's farewell.
return redis.call('ZREM', KEY.workers(given.queue), given.worker)
