-- The health of a resource of Levada, for Argo CD: one script for all six kinds, since their conditions mean the same.
--
--   Degraded     a person must act (Stalled)
--   Progressing  the spec, or what it refers to, is not carried out yet
--   Suspended    it waits for a person: spec.suspend, or a candidate that wants approval
--   Healthy      the spec is carried out and what it made can be used, also while it is made anew for new inputs
--
-- Argo CD gives it `obj` and runs it in a Lua without most libraries.

local function is(condition, status)
  return condition ~= nil and condition.status == status
end

local generation = obj.metadata.generation
local status = obj.status or {}
if status.observedGeneration ~= generation then
  return {status = "Progressing", message = "the operator has not looked at generation " .. generation .. " yet"}
end

local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

local ready, working, stalled = conditions.Ready, conditions.Reconciling, conditions.Stalled
if is(stalled, "True") then
  return {status = "Degraded", message = stalled.message}
end
if is(working, "True") then
  if is(ready, "True") then
    return {status = "Healthy", message = ready.message .. "; " .. working.message}
  end
  return {status = "Progressing", message = working.message}
end
if ready == nil then
  return {status = "Progressing", message = "it has no condition Ready yet"}
end
if obj.spec.suspend or ready.reason == "WaitingForApproval" then
  return {status = "Suspended", message = ready.message}
end
if is(ready, "True") then
  return {status = "Healthy", message = ready.message}
end
return {status = "Progressing", message = ready.message}
