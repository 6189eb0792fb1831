-- What serves right now. Returns a list of {queue, model card or false, names of live workers, queued, running}.
local answer = {}
for _, queue in ipairs(redis.call('SMEMBERS', KEY.queues)) do
  redis.call('ZREMRANGEBYSCORE', KEY.workers(queue), '-inf', clock())
  answer[#answer + 1] = {
    queue,
    redis.call('HGET', KEY.cards, queue),
    redis.call('ZRANGE', KEY.workers(queue), 0, -1),
    redis.call('ZCARD', KEY.queued(queue)),
    redis.call('SCARD', KEY.running(queue)),
  }
end
return answer
