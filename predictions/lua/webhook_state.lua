-- ARGV: "id:event". Returns the attempts made so far, or -1 where the webhook is not owed any more.
if not redis.call('ZSCORE', 'musicgen:webhooks', ARGV[1]) then return -1 end
return tonumber(redis.call('HGET', 'musicgen:webhook:' .. ARGV[1], 'attempts') or 0)
