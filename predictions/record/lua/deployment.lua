-- What serves right now. Returns a list of {queue, model card or false, names of live workers, queued, running}.
local answer = {}
for _, queue in ipairs(redis.call('SMEMBERS', 'musicgen:queues')) do
  local workers = 'musicgen:workers:' .. queue
  redis.call('ZREMRANGEBYSCORE', workers, '-inf', clock())
  answer[#answer + 1] = {
    queue,
    redis.call('HGET', 'musicgen:cards', queue),
    redis.call('ZRANGE', workers, 0, -1),
    redis.call('ZCARD', 'musicgen:queued:' .. queue),
    redis.call('SCARD', 'musicgen:running:' .. queue),
  }
end
return answer
