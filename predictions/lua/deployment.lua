-- What serves right now. Returns {model card or false, names of live workers, queued, running}.
redis.call('ZREMRANGEBYSCORE', 'musicgen:workers', '-inf', clock())
return {
  redis.call('GET', 'musicgen:model'),
  redis.call('ZRANGE', 'musicgen:workers', 0, -1),
  redis.call('ZCARD', 'musicgen:queued'),
  redis.call('ZCARD', 'musicgen:leases'),
}
