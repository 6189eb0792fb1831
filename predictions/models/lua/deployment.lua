-- What serves right now.
-- Returns a list of {queue, announcement or false, names of live workers, queued, running}.
local answer = {}
for _, queue in ipairs(redis.call('SMEMBERS', KEY.queues)) do
  local workers = KEY.workers(queue)
  redis.call('ZREMRANGEBYSCORE', workers, '-inf', clock())
  answer[#answer + 1] = {
    queue,
    redis.call('HGET', KEY.cards, queue),
    redis.call('ZRANGE', workers, 0, -1),
    redis.call('HLEN', KEY.waiting(queue)),
    redis.call('SCARD', KEY.running(queue)),
  }
end
return answer
