-- The fine-tunes that have an adapter as a version. Given: id. Returns a list of {flat record, versions}.
local found = {}
for _, name in ipairs(redis.call('SMEMBERS', KEY.adapter(given.id))) do
  found[#found + 1] = {
    redis.call('HGETALL', KEY.fine_tune(name)), redis.call('HGETALL', KEY.fine_tune_versions(name))
  }
end
return found
