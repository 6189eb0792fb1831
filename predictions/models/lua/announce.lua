-- A worker's sign of life. Given: worker (its name), queue, announcement (as JSON), alive_seconds. Returns 1.
redis.call('SADD', KEY.queues, given.queue)
redis.call('HSET', KEY.cards, given.queue, given.announcement)
redis.call('ZADD', KEY.workers(given.queue), clock() + given.alive_seconds, given.worker)
return 1
