-- What has been kept long enough. Given: retention_seconds, limit (of each kind).
-- Returns {ids of ended predictions, ids of files}.
local before = clock() - given.retention_seconds
return {
  redis.call('ZRANGEBYSCORE', KEY.ended, '-inf', before, 'LIMIT', 0, given.limit),
  redis.call('ZRANGEBYSCORE', KEY.files, '-inf', before, 'LIMIT', 0, given.limit),
}
