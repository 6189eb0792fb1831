-- How many messages wait in a queue. Given: queue.
return redis.call('LLEN', given.queue)
