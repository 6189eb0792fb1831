-- What serves right now. Returns {{queue, model card, names of live workers, how many wait}, ...}, running.
local models, cards = {}, redis.call('HGETALL', 'musicgen:models')
for i = 1, #cards, 2 do
  local workers = 'musicgen:workers:' .. cards[i]
  redis.call('ZREMRANGEBYSCORE', workers, '-inf', clock())
  models[#models + 1] = {
    cards[i],
    cards[i + 1],
    redis.call('ZRANGE', workers, 0, -1),
    redis.call('ZCARD', 'musicgen:queued:' .. cards[i]),
  }
end
return { models, redis.call('ZCARD', 'musicgen:leases') }
