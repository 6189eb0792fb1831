-- What has been kept long enough. Returns {prediction ids, file ids}, at most `limit` of each.
local before = clock() - given.retention_seconds
return {
  redis.call('ZRANGEBYSCORE', KEY.ended, '-inf', before, 'LIMIT', 0, given.limit),
  redis.call('ZRANGEBYSCORE', KEY.files, '-inf', before, 'LIMIT', 0, given.limit),
}
