-- The list of an owner's records of one kind; a record that names none is a prediction.
local function list_of(owner, kind)
  return kind == KIND.training and KEY.owner_trainings(owner) or KEY.owner(owner)
end
