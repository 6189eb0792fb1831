-- The fine-tunes that an owner may use, its own and public ones. Given: owner. Returns a list of {flat record, versions}.
local seen, found = {}, {}
for _, names in ipairs({ KEY.owner_fine_tunes(given.owner), KEY.public_fine_tunes }) do
  for _, name in ipairs(redis.call('SMEMBERS', names)) do
    if not seen[name] then
      seen[name] = true
      found[#found + 1] = {
        redis.call('HGETALL', KEY.fine_tune(name)), redis.call('HGETALL', KEY.fine_tune_versions(name))
      }
    end
  end
end
return found
