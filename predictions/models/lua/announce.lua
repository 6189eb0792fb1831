-- A worker's sign of life: it takes from `queue` and serves the model of this card.
redis.call('SADD', KEY.queues, given.queue)
redis.call('HSET', KEY.cards, given.queue, given.card)
redis.call('ZADD', KEY.workers(given.queue), clock() + given.alive_seconds, given.worker)
return 1
