-- The webhooks whose next attempt is due, the one that has been due longest first. Given: limit. Returns webhook-ids.
return redis.call('ZRANGEBYSCORE', KEY.webhooks, '-inf', clock(), 'LIMIT', 0, given.limit)
