-- Let an owner's next secret take the place of its current one, which signs beside it for a while longer.
-- Given: owner, token (that of the request), overlap_seconds. Returns 1. Repeated because its answer was lost, it finds
-- its own work.
if chosen_before(given.token) then return 1 end
local key, time = KEY.webhook_secret(given.owner), tonumber(clock())
local known = redis.call('HMGET', key, 'generation', 'oldest', 'rotated_at')
local generation = tonumber(known[1] or 0)
local oldest = generation
-- One more that has not signed for long enough yet; never more, for each makes every webhook's header longer.
if known[3] and time - known[3] < given.overlap_seconds then
  oldest = math.max(tonumber(known[2]), generation - 1)
end
redis.call('HSET', key, 'generation', generation + 1, 'oldest', oldest, 'rotated_at', clock())
remember_choice(given.token, generation + 1)
return 1
