"""What a person does with trained models: published weights."""
