-- What serves right now. Returns {model card or false, live workers, queued, running}.
redis.call('ZREMRANGEBYSCORE', 'musicgen:workers', '-inf', clock())
return {
  redis.call('GET', 'musicgen:model'),
  redis.call('ZCARD', 'musicgen:workers'),
  redis.call('ZCARD', 'musicgen:queued'),
  redis.call('ZCARD', 'musicgen:leases'),
}
