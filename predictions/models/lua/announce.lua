-- A worker's sign of life.
-- Given: worker (its name), queue, announcement (as JSON; '' where it has no model), alive_seconds. Returns 1.
redis.call('SADD', KEY.queues, given.queue)
if given.announcement ~= '' then redis.call('HSET', KEY.cards, given.queue, given.announcement) end
redis.call('ZADD', KEY.workers(given.queue), clock() + given.alive_seconds, given.worker)
return 1
