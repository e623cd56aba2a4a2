# Documents of the compliance API (form=ecs) as requests of Elasticsearch's bulk API: jq -cf bulk.jq. A host's record has the id that
# rsyslog gives it.
([.lockdownd.ledger, (.event.sequence | tostring)]
    + if .event.module == "lockdownd" then [.event.original | fromjson | .signature[243:283]] else [] end | join("/")) as $id |
{create: {_index: "logs-\(.event.dataset)-default", _id: $id}},
.
