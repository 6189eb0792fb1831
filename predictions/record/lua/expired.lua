-- What has been kept long enough. ARGV: retention in seconds, limit. Returns {prediction ids, file ids}.
local before = clock() - ARGV[1]
return {
  redis.call('ZRANGEBYSCORE', 'musicgen:ended', '-inf', before, 'LIMIT', 0, ARGV[2]),
  redis.call('ZRANGEBYSCORE', 'musicgen:files', '-inf', before, 'LIMIT', 0, ARGV[2]),
}
