provides :lockdownd_grant
unified_mode true

description 'Permission for one person to log in to one account until a set time. Taken out of the recipe, it ends at the next converge.'

property :label, String, name_property: true,
         description: 'What it is called in the recipe; the daemon does not know it.'
property :person, String, required: %i(create),
         description: 'One of the people.'
property :account, String, required: %i(create),
         description: 'One of the accounts that the person may be given.'
property :expires_at, String, required: %i(create),
         description: 'Until when: RFC 3339 in UTC, such as 2026-12-01T18:00:00Z. A moment, never a length: a converge must not prolong it.'
property :starts_at, String,
         description: 'From when; without it, at once.'
property :from, [String, Array], coerce: proc { |value| Array(value) },
         description: 'The networks that the person may come from; without it, from anywhere.'
property :reason, String,
         description: 'Why. Required, unless the configuration says grants.require_reason = false.'
property :origin, String,
         description: 'Where this comes from, for the comment above it in the file. Default: the cookbook and recipe.'

default_action :create

action :create do
  entry = {
    'label' => new_resource.label,
    'person' => new_resource.person,
    'account' => new_resource.account,
    'expires_at' => new_resource.expires_at,
    'starts_at' => new_resource.starts_at,
    'from' => new_resource.from,
    'reason' => new_resource.reason,
    'origin' => new_resource.origin || declared_in(new_resource),
  }.compact
  # Refused here, where the name of the resource is known.
  entry.each { |key, value| LockdowndCookbook::Toml.toml(value, "#{new_resource} #{key}") }
  files = files_of_this_run
  files.grants(files.grants + [entry])
end

# By its label, whoever else asks for it: an attribute, a data bag item, another recipe.
action :remove do
  files = files_of_this_run
  files.removed_grants(files.removed_grants | [new_resource.label])
end

action_class do
  include LockdowndCookbook::Accumulated
end
